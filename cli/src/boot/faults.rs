//! `--inject`: the user's plan, with numbers for names, as the hypervisor takes it.

use anyhow::bail;

/// Replaces each C name of a hypercall or a status by its number.
pub(super) fn numbers(plan: &str) -> anyhow::Result<String> {
    let mut numbers = String::with_capacity(plan.len());
    let mut rest = plan;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        match number(word) {
            Some(number) => numbers.push_str(&format!("{number:#x}")),
            None if word.starts_with("HV") || word.starts_with("Hv") => {
                bail!(
                    "--inject: {word:?} is no hypercall and no status; `hv abi {word}` may find what it is"
                );
            }
            None => numbers.push_str(word),
        }
        let separator = tail.chars().next().map_or(0, char::len_utf8);
        numbers.push_str(&tail[..separator]);
        rest = &tail[separator..];
    }
    if numbers.len() > hv_wire::PLAN_BYTES {
        bail!("--inject: the plan has {} bytes, and {} is the most", numbers.len(), hv_wire::PLAN_BYTES);
    }
    Ok(numbers)
}

fn number(word: &str) -> Option<u64> {
    let wanted = |constant: &&hv_tlfs::abi::Constant| {
        matches!(constant.kind, "hypercall" | "status")
            && (constant.name == word || constant.aliases.contains(&word))
    };
    hv_tlfs::abi::constants().find(wanted).map(|constant| constant.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers_and_the_rest_stays() {
        let plan = "call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@3, lost=18@10%,silent=200ms@1000ms,seed=7";
        let numbers = numbers(plan).unwrap();
        assert_eq!(numbers, "call=0x5d:0x13@3, lost=18@10%,silent=200ms@1000ms,seed=7");
        assert_eq!(super::numbers("").unwrap(), "");
    }

    #[test]
    fn an_unknown_name_and_an_endless_plan_are_refused() {
        assert!(numbers("call=HVCALL_NO_SUCH:0x13").unwrap_err().to_string().contains("HVCALL_NO_SUCH"));
        assert!(numbers(&"lost,".repeat(400)).unwrap_err().to_string().contains("2000 bytes"));
    }
}
