//! Every mistake that a person, a disk, a clock or a stranger can make: nothing breaks, and the message says what, where and
//! what to do.

mod data;
mod disk;
mod jobs;
mod peers;
