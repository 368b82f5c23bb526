//! Facts about a Linux kernel found in its image.

use memchr::memmem;

/// Start of the banner (Linux, init/version-timestamp.c, `linux_banner`).
const BANNER: &[u8] = b"Linux version ";
/// Maximum length of a version.
const LONGEST: usize = 128;

/// Returns the version of the Linux kernel in these unpacked bytes; `None` for another program.
#[must_use]
pub fn version(kernel: &[u8]) -> Option<&str> {
    let text = kernel.get(memmem::find(kernel, BANNER)? + BANNER.len()..)?;
    let text = &text[..text.len().min(LONGEST)];
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    std::str::from_utf8(&text[..end]).ok().filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

/// Returns true if the VMBus driver is built into the kernel: its messages begin with its name.
#[must_use]
pub fn has_vmbus(kernel: &[u8]) -> bool {
    memmem::find(kernel, b"hv_vmbus").is_some()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_kernel_names_its_version() {
        let kernel = b"\0\0Linux version 6.12.1-test (someone) #1\0hv_vmbus: Vmbus version\0";
        assert_eq!(version(kernel), Some("6.12.1-test"));
        assert!(has_vmbus(kernel) && !has_vmbus(&kernel[..40]));
        for other in [&b""[..], b"seL4", b"Linux version ", b"Linux version %s (%s)", b"Linux version 6.1"] {
            assert_eq!(version(other), None);
        }
    }
}
