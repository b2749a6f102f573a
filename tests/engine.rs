//! Tests of the area `engine` against the built binary, known answers and real parts.
