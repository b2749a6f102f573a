//! Tests of the area `hosts` against the built binary, known answers and real parts.
