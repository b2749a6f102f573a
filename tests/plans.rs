//! Tests of the area `plans` against the built binary, known answers and real parts.
