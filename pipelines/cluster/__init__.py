"""What only a Kubeflow cluster needs to know of the pipeline: images, resources, nodes, names."""
