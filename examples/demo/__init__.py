"""`make demo`: a real cluster, the product, three YAML objects, 200 pictures, ResNet-50."""
