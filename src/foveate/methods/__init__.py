"""Self-supervised methods, one file each: a frozen configuration and one module that the loop trains (see ``moment``)."""
