"""Images: decoding files to grey values, preprocessing, and perturbations."""
