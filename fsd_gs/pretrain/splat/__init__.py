"""Training the splat-native prior: objects without end, a loss through the rasterizer, a trainer that stops and resumes anywhere."""
