"""Common ground: the nouns (cameras, splats, renders), named random streams, devices, points in space. Knows no other room."""
