# The ladder: what each step after the baseline brings, in a quick protocol. The validation images stand in for the test
# images: nothing is trained, fitted or chosen on their masks, which only score every step.
#
#   make -f ladder.mk -j2 CAMVID=... WEIGHTS=...
#
# A killed run goes on where it stopped.

TEST := val
EPOCHS ?= 4
SEEDS :=
SIZES :=
CHAIN_VIEWS := hflip,scale:1.25
# What is fitted and looked for out-of-fold needs no views.
OOF_VIEWS :=
# One thread each: `make -j2` has two steps at work, and the cores do not wait for each other.
CHAIN_PREDICT := --threads 1
CHAIN_TRAIN = --arch fpn --encoder tu-tf_efficientnet_lite0 --encoder-weights $(WEIGHTS) --resize 180x240 --crop 128 \
  --epochs $(EPOCHS) --valid-every $(EPOCHS) --threads 1

include Makefile
.DEFAULT_GOAL := ladder

RUNGS := $(CHAIN)/rungs
preds-base := $(RUNGS)/base
preds-swa := $(RUNGS)/swa
preds-hflip := $(RUNGS)/hflip
preds-scales := $(RUNGS)/scales
preds-folds := $(CHAIN)/preds/test/swa
preds-members := $(RUNGS)/members
preds-weights := $(CHAIN)/ensemble/test
preds-pseudo := $(CHAIN)/with-pseudo/test
preds-relabel := $(CHAIN)/final/test
# By themselves: the base's three networks, and the same trained with pseudo-labels, and on corrected masks.
preds-base-folds := $(CHAIN)/preds/test/base
preds-pseudo-folds := $(CHAIN)/preds/test/pseudo
preds-relabel-folds := $(CHAIN)/preds/test/relabel
rungs := base swa hflip scales folds members weights pseudo relabel
alone := base-folds pseudo-folds relabel-folds

.PHONY: ladder
scored = $(foreach rung,$1,$(rung)=$(RUNGS)/scores/$(rung))
ladder: $(foreach rung,$(rungs) $(alone),$(RUNGS)/scores/$(rung)/done.json)
	$(SEGTOOL) compare $(call scored,$(rungs)) --steps -o ladder.csv --overwrite
	$(SEGTOOL) compare $(call scored,$(alone)) -o ladder-alone.csv --overwrite

# The masks of the images that play the test images.
$(CHAIN)/truth/done.json:
	$(SEGTOOL) import folders --images $(CAMVID)/$(TEST) --masks $(CAMVID)/$(TEST)annot --classes $(classes) \
	  --ignore-index 11 -o $(@D)

define score
$(RUNGS)/scores/$1/done.json: $(preds-$1)/done.json $(CHAIN)/truth/done.json
	$(SEGTOOL) evaluate $(CHAIN)/truth $(preds-$1) -o $$(@D)
endef
$(foreach rung,$(rungs) $(alone),$(eval $(call score,$(rung))))

# The first four rungs are one network, that of the first fold.
one-base := base --checkpoint last
one-swa := swa --checkpoint swa
one-hflip := swa --checkpoint swa --tta hflip
one-scales := swa --checkpoint swa --tta $(CHAIN_VIEWS)
$(RUNGS)/base/done.json: $(CHAIN)/runs/base/0/done.json
$(RUNGS)/swa/done.json $(RUNGS)/hflip/done.json $(RUNGS)/scales/done.json: $(CHAIN)/runs/swa/0/done.json
$(preds-base)/done.json $(preds-swa)/done.json $(preds-hflip)/done.json $(preds-scales)/done.json: $(RUNGS)/%/done.json:
	$(SEGTOOL) predict $(CHAIN)/data --run $(CHAIN)/runs/$(firstword $(one-$*))/0 $(wordlist 2,9,$(one-$*)) \
	  --no-probs $(CHAIN_PREDICT) -o $(@D)

# All members alike; with weights, the chains have it.
$(preds-members)/done.json: $(members:%=$(CHAIN)/preds/test/%/done.json)
	$(SEGTOOL) ensemble $(^D) --no-probs -o $(@D)

$(eval $(call ensemble-of,with-pseudo,$(members) pseudo))
