//! What Edgetrail hashes, signs and delivers, as plain values.
//!
//! A record is made once by an agent and its bytes never change; the [`chain`] covers those bytes with hashes and
//! seals; [`facets`] are what is indexed of them; [`digest`] and [`proof`] are what a trail delivers beside them.
//! Everything here is pure: no I/O, no clock, no randomness, no async. `now`, keys and seeds are arguments.

pub mod limits;

pub mod identity;

pub mod record;

pub mod selector;

pub mod facets;

pub mod merkle;

pub mod chain;

pub mod keys;

pub mod digest;

pub mod proof;

pub mod evidence;
