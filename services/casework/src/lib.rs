//! One case as an event-sourced aggregate, and the clocks of the law. Pure.
