"""Every setting of every command: frozen dataclasses, standard library only. One field is one option."""
