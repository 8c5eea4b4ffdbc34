# The ledger of techniques: the base with three seeds, then one condition changed per row, on CamVid in a quick protocol.
#
#   make -f ledger.mk CAMVID=... WEIGHTS=...            all rows that are not there yet, and the table
#   make -f ledger.mk CAMVID=... WEIGHTS=... ROW=mixup row
#
# A killed run goes on where it stopped; rows may be added at any time.

include Makefile
.DEFAULT_GOAL := ledger

LEDGER ?= $(OUT)/ledger
QUICK := --folds $(data)/folds.csv --fold 0 --encoder tu-tf_efficientnet_lite0 --encoder-weights $(WEIGHTS) \
  --resize 180x240 --crop 128 --epochs 4

# Augmentation
base-0 := --seed 0
base-1 := --seed 1
base-2 := --seed 2
augment-none := --augment none
augment-medium := --augment medium
augment-heavy := --augment heavy
cutout := --cutout 0.5
gridmask := --gridmask 0.5
crop-balance := --crop-balance 0.5
mixup := --mixup 0.4
cutmix := --cutmix 1
snapmix := --snapmix 1 --aux-head 0.1
oversample := --oversample 0.7
window := --window 128 --stride 64
# Losses
loss-ce := --loss ce
loss-focal := --loss focal
loss-dice-topk := --loss dice+topk
loss-lovasz := --loss ce+lovasz
loss-tversky := --loss ce+tversky
smoothing := --label-smoothing 0.1
class-weights := --class-weights median
# How the weights move
radam := --optimizer radamw
sgd := --optimizer sgd --lr 0.05
lookahead := --lookahead
encoder-lr := --encoder-lr-scale 0.1
onecycle := --schedule onecycle
poly := --schedule poly
ema := --ema 0.99
freeze := --freeze-encoder 1
accumulate := --accumulate 2
# Beside the mask
aux-head := --aux-head 0.1

ROWS := base-0 base-1 base-2 augment-none augment-medium augment-heavy cutout gridmask crop-balance mixup cutmix \
  snapmix oversample window loss-ce loss-focal loss-dice-topk loss-lovasz loss-tversky smoothing class-weights radam \
  sgd lookahead encoder-lr onecycle poly ema freeze accumulate aux-head
# Which weights a row is judged by: the last, as all rows train as long.
checkpoint = $(if $(filter ema,$*),ema,last)

.PHONY: ledger row
ledger: $(ROWS:%=$(LEDGER)/%/preds/done.json)
	python ledger.py $(data) $(LEDGER) -o ledger.csv

row: $(LEDGER)/$(ROW)/preds/done.json

$(LEDGER)/%/preds/done.json: $(LEDGER)/%/run/done.json
	$(SEGTOOL) predict $(data) --run $(<D) --checkpoint $(checkpoint) --subset valid --no-probs -o $(@D)

$(LEDGER)/%/run/done.json: $(data)/done.json
	mkdir -p $(LEDGER)/$*
	echo "$($*)" > $(LEDGER)/$*/options
	$(SEGTOOL) train $(data) $(QUICK) $($*) -o $(@D)

.PRECIOUS: $(LEDGER)/%/run/done.json
