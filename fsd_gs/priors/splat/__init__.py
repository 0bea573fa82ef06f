"""The splat-native prior: noisy views, cameras and words in; one set of Gaussians out, whose renders are the clean views."""
