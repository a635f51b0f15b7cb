//! The frontend as a guest: the stock one with a layer on it.
use rhost_sdk::{Error, Invocation, Outcome};

rhost_sdk::frontend!(build);

fn build(invocation: Invocation) -> Result<Outcome, Error> {
    rhost_dockerfile::guest::answer(invocation, &crate::Plus)
}
