//! `skyfill unpack-as-did-file`.

use arguments::UnpackArgs;
use engine::did_cache::{self, Unpacked};
use process::{Ended, Failure};
use std::io::stdout;

pub(crate) fn run(args: &UnpackArgs) -> Result<Ended, Failure> {
    let unpacked = did_cache::unpack(&args.path, stdout().lock(), "stdout")?;
    let Some(Unpacked { pairs, bad }) = unpacked else {
        return Ok(Ended::Well);
    };
    observe::log!("{pairs} pairs, {bad} entries skipped");
    Ok(Ended::well_if(bad == 0))
}
