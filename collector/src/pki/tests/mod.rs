mod authority;
mod enrollment;
mod replaced;
