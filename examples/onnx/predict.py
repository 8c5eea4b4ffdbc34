"""Predict a mask with an exported model: python predict.py model.onnx image.jpg mask.png"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, image, mask = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
about = session.get_modelmeta().custom_metadata_map
pixels = np.asarray(Image.open(image).convert("RGB"))[None]  # uint8 (1, H, W, 3), as stored
probs, ids = session.run(["probs", "mask"], {"image": pixels})  # float32 (1, C, H, W), uint8 (1, H, W)
shares = zip(json.loads(about["classes"]), probs[0].mean((1, 2)), strict=True)
print(*(f"{name}: {share:.1%}" for name, share in shares), sep="\n")
picture = Image.fromarray(ids[0])
picture.putpalette(np.uint8(json.loads(about["palette"])).tobytes())
picture.save(mask)
