//! `version`

use anyhow::Result;
use serde_json::json;

use super::super::SUCCESS;
use super::super::args::{OutputFormat, Version};
use super::super::output;
use crate::payload::{Executable, VERSION, host_platform};

/// `version`: also of an executable whose payload is damaged.
pub(crate) fn run(arguments: &Version) -> Result<u8> {
    let executable = Executable::own().ok();
    let application = executable.as_ref().map(Executable::application);
    if arguments.short {
        output::print(&format!("{VERSION}\n"));
    } else if arguments.format == OutputFormat::Json {
        output::print_json(&json!({
            "version": VERSION,
            "platform": host_platform().to_string(),
            "application": application.map(|application| &application.name),
            "builder": application.map(|application| &application.builder),
            "payload": executable.as_ref().map(|executable| executable.payload().digest().to_string()),
        }))?;
    } else {
        let mut text = format!("dpack runner {VERSION} ({})\n", host_platform());
        if let (Some(application), Some(executable)) = (application, &executable) {
            let payload = executable.payload().digest();
            text.push_str(&format!(
                "application {}, built by dpack {}, payload {payload}\n",
                application.name, application.builder
            ));
        }
        output::print(&text);
    }
    Ok(SUCCESS)
}
