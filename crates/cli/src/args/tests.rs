//! Tests of what the command line accepts.

use super::*;
