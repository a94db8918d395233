"""Networks A to H: architectures, modules, augmentation, training, occlusion."""
