//! Tests of the area `workflows` against the built binary, known answers and real parts.
