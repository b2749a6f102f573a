//! Tests of the area `toolkit` against the built binary, known answers and real parts.
