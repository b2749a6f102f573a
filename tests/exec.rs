//! Tests of the area `exec` against the built binary, known answers and real parts.
