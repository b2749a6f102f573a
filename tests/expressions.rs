//! Tests of the area `expressions` against the built binary, known answers and real parts.

mod hash_files;
mod limits;
mod properties;
mod vectors;
