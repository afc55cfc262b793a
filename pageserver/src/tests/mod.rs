//! Page equality and its enemies.
