//! The network card, as a guest sees it.

mod frames;
mod guest;
mod hostile;
mod leave;
mod life;
mod objects;
mod restored;
