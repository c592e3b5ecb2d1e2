//! Images: references, the OCI layout, layers, archives, registries, commit.
