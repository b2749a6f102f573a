//! Tests of the area `daemon` against the built binary, known answers and real parts.
