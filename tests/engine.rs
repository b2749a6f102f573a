//! The engine: simulated schedules, the loop around it, and the scheduler's rules.

mod disk;
mod loops;
mod simulation;
mod world;
