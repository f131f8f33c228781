//! From a walk to a frozen plan without choices left, and the linter that checks it. Pure.
//!
//! The [`linter`](lint) does not share the planner's code paths: it looks at the finished plan, the holdings and the inventory.

mod linter;
mod order;
mod planner;

pub use linter::lint;
pub use planner::{Basis, Doubt, Holding, Request, Suspicion, digest, inventory_digest, plan, plan_lift};
