//! The snapshotter as a whole, on a real directory and a real database.

mod crash;
mod host;
mod layers;
mod merging;
mod overlaid;
mod plan;
mod protection;
mod recovery;
mod rules;
mod sealing;
mod verity;
mod vouched;
mod written;
