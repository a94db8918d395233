"""Choose how fast the wanted probability falls along the code's tree, on the validation split.

    python benchmarks/code_tree.py [--images 2500] [--epochs 6]

Trains network G by cross-entropy over the classes, over the codes (an infinite sharpness), and with
three values of ``cbir_lib.networks.code_tree.SHARPNESS``; searches the training images for each
validation image. The rule, written before the numbers: the sharpness with the highest nDCG@10.
"""

import argparse

import numpy as np
import torch

from cbir_lib import Index, Preprocessing, load
from cbir_lib.descriptors.learned import LearnedDescriptor
from cbir_lib.evaluation import measures
from cbir_lib.evaluation.protocol import grade_by_code
from cbir_lib.images.preprocessing import compute_mean_image
from cbir_lib.networks import code_tree
from cbir_lib.networks.modules import TrainedNetwork, build_network
from cbir_lib.networks.training import Settings, fit

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--images", type=int, default=2500, help="of the training split")
parser.add_argument("--epochs", type=int, default=6)
options = parser.parse_args()

data = load("phantom").sample({"train": options.images, "validation": 400, "test": 5}, seed=0)
train, validation = data.split("train"), data.split("validation")
preprocessing = Preprocessing(size=64, clahe=True)
prepared = [preprocessing.transform(of_split.images) for of_split in (train, validation)]
print("loss               nDCG@10  hierarchical error    P@1    mAP")
for loss, sharpness in [
    ("cross-entropy", None),
    ("codes", np.inf),
    *(("code-tree", value) for value in (10, 20, 40)),
]:
    if sharpness:
        code_tree.SHARPNESS[loss] = sharpness
    torch.manual_seed(0)
    network = build_network("G", compute_mean_image(prepared[0]), classes=len(data.class_names))
    fit(
        *(network, prepared[0], train.labels, prepared[1], validation.labels),
        Settings(loss=loss, epochs=options.epochs, batch_size=64),
        codes=[train.irma_codes, validation.irma_codes],
    )
    trained = TrainedNetwork("G", {}, data.class_names, preprocessing, network.eval())
    descriptor = LearnedDescriptor(trained)
    index = Index(descriptor.distance).add(descriptor.transform(train.images), train.image_ids)
    ranking = index.search(descriptor.transform(validation.images))
    gains = grade_by_code(ranking, validation, train)
    relevant = measures.find_relevant(ranking, validation.labels, train.labels)
    name = f"{loss} {sharpness}" if loss == "code-tree" else loss
    print(
        f"{name:18} {100 * measures.ndcg(gains, ranking.distances, 10).mean():7.1f} "
        f"{1 - gains[:, 0].mean():19.3f} {100 * relevant[:, 0].mean():6.1f} "
        f"{100 * np.nanmean(measures.average_precision(relevant, ranking.distances)):6.1f}",
        flush=True,
    )
