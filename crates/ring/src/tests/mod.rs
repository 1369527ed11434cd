//! Whole rings on a simulated network: virtual time; delay, reordering and loss from a seed.

mod churn;
mod detection;
mod growth;
mod hostile;
mod network;
mod routing;
mod watching;
