//! Rings of a size that no machine of ours could run as processes: the ring's own state machines alone by the thousand
//! ([`ring`]), and a hundred whole peers with data through a join, a leave and a failure ([`data`]).

pub mod data;
pub mod ring;
mod traffic;
