"""What methods are trained on: clips from a project's stores or from folders of pictures, and what is done to them on the device."""
