//! The contexts and functions of each place of a file, as values that live forever.
//!
//! Pure: no I/O, no clock, no async.

use crate::expr::Names;

macro_rules! names {
    ($($name:ident)*) => { $(pub(super) static $name: Names = Names::$name;)* };
}

names! {
    RUN WORKFLOW_ENV CALL_OUTPUT JOB_IF STRATEGY JOB JOB_ENV JOB_DEFAULTS JOB_RUNNING ENVIRONMENT_URL CREDENTIALS
    STEP_IF STEP ACTION_INPUT ACTION_OUTPUT ACTION_CONTAINER ACTION_IF COMPOSITE_IF COMPOSITE
}
