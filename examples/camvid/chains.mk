# Whole competitions, in shell lines. The official training images are split into three folds by stretches of video, one
# network is trained for each, every training image is predicted by the network that did not see it (oof), and the test
# images by all three. TEST=val has the validation images stand in for the test images, whose truth is withheld.
#
#   make -j2 folds | seeds | sizes | archs | swa | ensemble | pseudo | noise | submission    CAMVID=... WEIGHTS=...

TEST ?= test
SEEDS ?= 1 2
SIZES ?= 270x360
ARCHS ?= deeplabv3plus
CHAIN_VIEWS ?= hflip,scale:1.25
OOF_VIEWS ?= $(CHAIN_VIEWS)
CHAIN_TRAIN ?= --arch fpn --encoder tu-tf_efficientnet_lite0 --encoder-weights $(WEIGHTS) --crop 256x256 --epochs $(EPOCHS)
CHAIN_PREDICT ?=

CHAIN := $(OUT)/chains-$(TEST)
FOLDS := 0 1 2
# What an ensemble is made of: each word is a way to train, and stands for one network per fold.
members := swa $(SEEDS:%=seed-%) $(SIZES:%=size-%) $(ARCHS:%=arch-%)
all-members := $(members) pseudo relabel
# The three runs of a way; the way and the fold of a run.
runs = $(FOLDS:%=$(CHAIN)/runs/$1/%)
way = $(notdir $(patsubst %/,%,$(dir $(@D))))
changed = $(patsubst seed-%,--seed %,$(filter seed-%,$1)) $(patsubst size-%,--resize %,$(filter size-%,$1)) \
  $(patsubst arch-%,--arch %,$(filter arch-%,$1)) $(if $(filter pseudo,$1),--extra $(CHAIN)/pseudo/dataset.yaml:0.5) \
  $(if $(filter relabel,$1),--relabel $(CHAIN)/relabel/dataset.yaml)
trained := base $(filter-out swa,$(all-members))

.PHONY: folds seeds sizes archs swa ensemble pseudo noise submission
folds: $(CHAIN)/scores/base/done.json $(CHAIN)/preds/test/base/done.json
swa: $(CHAIN)/scores/swa/done.json $(CHAIN)/preds/test/swa/done.json
seeds sizes archs: %s: $(CHAIN)/%s/oof/done.json $(CHAIN)/%s/test/done.json
ensemble: $(CHAIN)/ensemble/oof/done.json $(CHAIN)/ensemble/test/done.json
pseudo: $(CHAIN)/scores/pseudo/done.json $(CHAIN)/preds/test/pseudo/done.json
noise: $(CHAIN)/scores/relabel/done.json $(CHAIN)/preds/test/relabel/done.json
submission: $(CHAIN)/submission.csv.done.json

# A name that ends in three digits more than its first part: a stretch of a thousand frames, half a minute.
$(CHAIN)/data/done.json:
	$(SEGTOOL) import folders --images $(CAMVID)/train --masks $(CAMVID)/trainannot --test-images $(CAMVID)/$(TEST) \
	  --classes $(classes) --ignore-index 11 --group-regex '^(.+)\d{3}$$' -o $(@D)

$(CHAIN)/folds.csv.done.json: $(CHAIN)/data/done.json
	$(SEGTOOL) split $(CHAIN)/data --kind stratified-group --n-folds $(words $(FOLDS)) -o $(CHAIN)/folds.csv

# The base keeps its checkpoints, as swa goes on from three quarters of its epochs, however many they are.
$(foreach way,$(trained),$(addsuffix /done.json,$(call runs,$(way)))): $(CHAIN)/folds.csv.done.json
	$(SEGTOOL) train $(CHAIN)/data $(CHAIN_TRAIN) $(call changed,$(way)) $(if $(filter base,$(way)),--keep-last $(EPOCHS)) \
	  --folds $(CHAIN)/folds.csv --fold $(notdir $(@D)) -o $(@D)

$(addsuffix /done.json,$(call runs,swa)): $(CHAIN)/runs/swa/%/done.json: $(CHAIN)/runs/base/%/done.json
	$(SEGTOOL) swa $(CHAIN)/runs/base/$* --start 0.75 --until 1.25 --keep average -o $(@D)

$(addsuffix /done.json,$(call runs,pseudo)): $(CHAIN)/pseudo/done.json
$(addsuffix /done.json,$(call runs,relabel)): $(CHAIN)/relabel/done.json

# Predictions of a way. Rules for each, as they stand on three runs of its own.
define predict-way
$(CHAIN)/preds/oof/$1/done.json $(CHAIN)/preds/test/$1/done.json: $(addsuffix /done.json,$(call runs,$1))
$(CHAIN)/preds/oof/$1/done.json:
	$(call predict,$1) $(addprefix --tta ,$(OOF_VIEWS)) --subset oof -o $$(@D)
$(CHAIN)/preds/test/$1/done.json:
	$(call predict,$1) $(addprefix --tta ,$(CHAIN_VIEWS)) --subset test -o $$(@D)
endef
predict = $(SEGTOOL) predict $(CHAIN)/data $(addprefix --run ,$(call runs,$1)) \
  --checkpoint $(if $(filter swa,$1),swa,last) $(CHAIN_PREDICT)
$(foreach way,base $(all-members),$(eval $(call predict-way,$(way))))

$(CHAIN)/scores/%/done.json: $(CHAIN)/preds/oof/%/done.json
	$(SEGTOOL) evaluate $(CHAIN)/data $(<D) -o $(@D)

# Ensembles with fitted weights: the out-of-fold predictions say how much each member counts, the test repeats it.
define ensemble-of
$(CHAIN)/$1/oof/done.json: $(2:%=$(CHAIN)/preds/oof/%/done.json)
	$(SEGTOOL) ensemble $$(^D) --fit $(CHAIN)/data -o $$(@D)
$(CHAIN)/$1/test/done.json: $(CHAIN)/$1/oof/done.json $(2:%=$(CHAIN)/preds/test/%/done.json)
	$(SEGTOOL) ensemble $(2:%=$(CHAIN)/preds/test/%) --like $(CHAIN)/$1/oof -o $$(@D)
endef
$(eval $(call ensemble-of,seeds,base $(SEEDS:%=seed-%)))
$(eval $(call ensemble-of,sizes,base $(SIZES:%=size-%)))
$(eval $(call ensemble-of,archs,base $(ARCHS:%=arch-%)))
$(eval $(call ensemble-of,ensemble,$(members)))
$(eval $(call ensemble-of,final,$(all-members)))

# Confident pixels of the test images become labels of half the weight.
$(CHAIN)/pseudo/done.json: $(CHAIN)/ensemble/test/done.json
	$(SEGTOOL) pseudo $(<D) --per-class -o $(@D)

# The most suspicious masks, corrected where other networks are sure of something else.
$(CHAIN)/noise.csv.done.json: $(CHAIN)/ensemble/oof/done.json
	$(SEGTOOL) noise-rank $(CHAIN)/data $(<D) --sort score --sheet $(CHAIN)/noise.png -o $(CHAIN)/noise.csv

$(CHAIN)/relabel/done.json: $(CHAIN)/noise.csv.done.json
	$(SEGTOOL) pseudo $(CHAIN)/ensemble/oof --replace $(CHAIN)/noise.csv --worst 5% -o $(@D)

$(CHAIN)/submission.csv.done.json: $(CHAIN)/final/test/done.json
	$(SEGTOOL) submit $(<D) -o $(CHAIN)/submission.csv

.SECONDARY:
