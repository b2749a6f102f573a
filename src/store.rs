//! sled trees for state, files for logs and blobs.
