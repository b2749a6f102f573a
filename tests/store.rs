//! Tests of the area `store` against the built binary, known answers and real parts.
