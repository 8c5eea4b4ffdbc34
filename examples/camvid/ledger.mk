# The ledger of techniques: the base with three seeds, then one condition changed per row, on CamVid in a quick protocol.
#
#   make -f ledger.mk CAMVID=... WEIGHTS=...            all rows that are not there yet, and the table
#   make -f ledger.mk CAMVID=... WEIGHTS=... ROW=mixup row
#
# A killed run goes on where it stopped; rows may be added at any time.

include Makefile
.DEFAULT_GOAL := ledger

LEDGER ?= $(OUT)/ledger
# One thread each: `make -j2` has two rows at work, and the cores do not wait for each other.
QUICK := --folds $(data)/folds.csv --fold 0 --arch fpn --encoder tu-tf_efficientnet_lite0 --encoder-weights $(WEIGHTS) \
  --resize 180x240 --crop 128 --epochs 4 --valid-every 4 --threads 1

base-0 := --seed 0
base-1 := --seed 1
base-2 := --seed 2
# Augmentation
augment-none := --augment none
augment-heavy := --augment heavy
cutout := --cutout 0.5
gridmask := --gridmask 0.5
mixup := --mixup 0.4
cutmix := --cutmix 1
snapmix := --snapmix 1 --aux-head 0.1
# What an epoch draws; windows are four times as many as images
crop-balance := --crop-balance 0.5
oversample := --oversample 0.7
window := --window 128 --stride 112 --epochs 1 --valid-every 1
# Losses
loss-ce := --loss ce
loss-dice-topk := --loss dice+topk
loss-dice-focal := --loss dice+focal
loss-lovasz := --loss ce+lovasz
loss-tversky := --loss ce+tversky
smoothing := --label-smoothing 0.1
class-weights := --class-weights median
# How the weights move
radam := --optimizer radamw
lookahead := --lookahead
encoder-lr := --encoder-lr-scale 0.3
onecycle := --schedule onecycle
ema := --ema 0.99
freeze := --freeze-encoder 1
accumulate := --accumulate 2
# Beside the mask
aux-head := --aux-head 0.1

ROWS := base-0 base-1 base-2 augment-none augment-heavy cutout gridmask mixup cutmix snapmix crop-balance oversample \
  window loss-ce loss-dice-topk loss-dice-focal loss-lovasz loss-tversky smoothing class-weights radam lookahead \
  encoder-lr onecycle ema freeze accumulate aux-head
# Which weights a row is judged by: the last, as all rows train as long.
checkpoint = $(if $(filter ema,$*),ema,last)

.PHONY: ledger row
ledger: $(ROWS:%=$(LEDGER)/%/scores/done.json)
	$(SEGTOOL) compare $(foreach row,$(ROWS),$(row)=$(LEDGER)/$(row)/scores) -o ledger.csv --overwrite

row: $(LEDGER)/$(ROW)/scores/done.json

$(LEDGER)/%/scores/done.json: $(LEDGER)/%/preds/done.json
	$(SEGTOOL) evaluate $(data) $(<D) -o $(@D)

$(LEDGER)/%/preds/done.json: $(LEDGER)/%/run/done.json
	$(SEGTOOL) predict $(data) --run $(<D) --checkpoint $(checkpoint) --subset valid --no-probs --threads 1 -o $(@D)

$(LEDGER)/%/run/done.json: $(data)/done.json
	$(SEGTOOL) train $(data) $(QUICK) $($*) -o $(@D)

.PRECIOUS: $(LEDGER)/%/run/done.json $(LEDGER)/%/preds/done.json
