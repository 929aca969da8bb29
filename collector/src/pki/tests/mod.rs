mod authority;
mod enrollment;
mod relays;
mod replaced;
