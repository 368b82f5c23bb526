//! Each fault that a frame can have, and what ping(8) in a stock guest sees of it; and what the driver does when the
//! host takes nothing, when the link goes down, and when the card is taken away.

use anyhow::ensure;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

use super::super::context::Context;
use super::super::packages;
use super::super::runner::Step;
use super::faults::fired;
use super::network::{BEGIN, HOST, files};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("inject/network/pings", pings),
        Step::new("inject/network/rescind", rescind),
        Step::new("inject/network/full", full),
    ]
}

/// Rules for single frames, each with what becomes of a ping. A frame has a number in its direction, and all but the
/// first few are pings and their answers. The seed has the corrupt bytes where they are noticed.
const RULES: [(&str, Fate); 9] = [
    ("sent=lost@20", Fate::Lost),
    ("sent=twice@40", Fate::Twice),
    ("sent=corrupt@60", Fate::Lost),
    ("sent=reorder@80", Fate::Overtaken),
    ("received=lost@100", Fate::Lost),
    ("received=twice@120", Fate::Twice),
    ("received=corrupt@140", Fate::Lost),
    ("received=reorder@160", Fate::Overtaken),
    ("late=1500ms@180", Fate::Overtaken),
];
const SEED: &str = "seed=7";
const PINGS: usize = 220;

/// What becomes of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It has no answer.
    Lost,
    /// It has two.
    Twice,
    /// It has its answer after a later one.
    Overtaken,
}

/// Returns the start of a script after which only pings are sent.
fn quiet() -> String {
    format!(
        "for name in all default; do echo 1 >/proc/sys/net/ipv6/conf/$name/disable_ipv6; done\n\
         {BEGIN}\
         arp -s {HOST} 52:55:0a:00:02:02\n"
    )
}

/// Checks that pings are lost, doubled and overtaken, each as its rule says and no others.
fn pings(context: &Context) -> anyhow::Result<()> {
    let script = format!("{}ping -c {PINGS} -i 0.05 {HOST}\n", quiet());
    let initrd = packages::script(context, &files(Stock::Cloud612)?, &script)?.display().to_string();
    let rules: Vec<&str> = RULES.iter().map(|(rule, _)| *rule).chain([SEED]).collect();
    let plan = rules.join(",");
    let booted = context.boot(&["--net", "user", "--initrd", &initrd, "--vps", "2", "--inject", &plan])?;
    booted.ended(Exit::Success, "power-off")?;
    let answers: Vec<(usize, bool)> = booted.console.lines().filter_map(answer).collect();
    let found: Vec<Fate> = fates(&answers).into_iter().map(|(_, fate)| fate).collect();
    let expected: Vec<Fate> = RULES.iter().map(|(_, fate)| *fate).collect();
    ensure!(found == expected, "the pings had {:?}:\n{}", fates(&answers), booted.console);
    (0..RULES.len()).try_for_each(|rule| fired(&booted, rule))
}

/// Checks that a card vanishes with a packet, and that `hv_netvsc` then removes it, or waits in the removal for the
/// completion of a frame without end: which of both depends on whether the packet was a frame, or the completion of
/// one that it had received.
fn rescind(context: &Context) -> anyhow::Result<()> {
    let script = format!(
        "{}\
         is_stuck() {{ grep -q rndis_filter_halt_device /proc/[0-9]*/wchan; }}\n\
         while ! is_stuck && [ -e /sys/class/net/eth0 ]; do ping -c 1 -W 1 {HOST}; done >/dev/null 2>&1\n\
         is_stuck && echo 'hv: removal stuck'\n\
         [ -e /sys/class/net/eth0 ] && echo 'hv: card there'\n\
         ping -c 1 -W 1 {HOST} || echo 'hv: no answer'\n\
         echo b >/proc/sysrq-trigger\n",
        quiet()
    );
    let initrd = packages::script(context, &files(Stock::Cloud612)?, &script)?.display().to_string();
    let rule = "rescind=network@100";
    let booted = context.boot(&["--net", "user", "--initrd", &initrd, "--vps", "2", "--inject", rule])?;
    booted.ended(Exit::Reset, "reset")?;
    let [stuck, there, unreachable] = ["hv: removal stuck", "hv: card there", "Network is unreachable"]
        .map(|text| booted.console.contains(text));
    booted.check(stuck == there, "the card is there if its removal is stuck, and else gone")?;
    booted.check(stuck != unreachable, "the network is unreachable if the card is gone")?;
    booted.says("hv: no answer")?;
    fired(&booted, 0)
}

/// Returns the number of the ping that a line of ping(8) is the answer to, and whether it is a second one.
fn answer(line: &str) -> Option<(usize, bool)> {
    let number = line.split("seq=").nth(1)?.split(' ').next()?.parse().ok()?;
    Some((number, line.contains("DUP!")))
}

/// Finds what became of the pings with these answers, but of those that had one in time.
fn fates(answers: &[(usize, bool)]) -> Vec<(usize, Fate)> {
    let mut fates = Vec::new();
    for ping in 0..PINGS {
        let Some(at) = answers.iter().position(|answer| *answer == (ping, false)) else {
            fates.push((ping, Fate::Lost));
            continue;
        };
        if answers[..at].iter().any(|(other, _)| *other > ping) {
            fates.push((ping, Fate::Overtaken));
        }
        if answers.contains(&(ping, true)) {
            fates.push((ping, Fate::Twice));
        }
    }
    fates
}

/// Checks that a driver whose packets are not taken finds no section of its send buffer free, and that it sees the link
/// go down and come up.
fn full(context: &Context) -> anyhow::Result<()> {
    let script = format!(
        "{BEGIN}\
         full() {{ ethtool -S eth0 | sed -n 's/ *tx_send_full: //p'; }}\n\
         ethtool -G eth0 tx 20\n\
         ip link set eth0 up\n\
         ping -i 0.005 {HOST} >/dev/null 2>&1 &\n\
         while :; do\n\
         now=$(cat /sys/class/net/eth0/carrier)\n\
         [ \"$now\" = \"$was\" ] || {{ echo \"hv: carrier $now\"; changes=$((changes + 1)); }}\n\
         was=$now\n\
         [ $(full) -gt 0 ] && [ $changes -ge 3 ] && [ $now = 1 ] && break\n\
         sleep 0.1\n\
         done\n\
         echo \"hv: full $(full) times\"\n\
         kill $!\n\
         until ping -c 3 {HOST} | tee got | grep -q '3 packets received'; do :; done\n\
         cat got\n"
    );
    let initrd = packages::initrd(context, "ethtool", &["sbin/ethtool"], &files(Stock::Cloud612)?, &script)?;
    let initrd = initrd.display().to_string();
    let plan = "mute=1500ms@5000ms,link=3000ms@9000ms";
    let booted = context.boot(&["--net", "user", "--initrd", &initrd, "--vps", "2", "--inject", plan])?;
    booted.ended(Exit::Success, "power-off")?;
    let times =
        booted.console.split("hv: full ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    booted.check(times.is_some_and(|times| times > 0), "the driver finds its send buffer full")?;
    let carrier: String =
        booted.console.split("hv: carrier ").skip(1).filter_map(|rest| rest.chars().next()).collect();
    booted.check(carrier.contains("101"), "the link was up, then down, and up again")?;
    booted.says("3 packets received")?;
    (0..2).try_for_each(|rule| fired(&booted, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_without_a_fate_is_answered_once_and_in_order() {
        let mut answers: Vec<(usize, bool)> = (0..PINGS).map(|ping| (ping, false)).collect();
        assert_eq!(fates(&answers), []);
        answers.swap(7, 8);
        answers.insert(4, (3, true));
        answers.remove(1);
        assert_eq!(fates(&answers), [(1, Fate::Lost), (3, Fate::Twice), (7, Fate::Overtaken)]);
        assert_eq!(answer("64 bytes from 10.0.2.2: seq=3 ttl=255 time=0.5 ms (DUP!)"), Some((3, true)));
        assert_eq!(answer("round-trip min/avg/max = 0.3/0.4/1.2 ms"), None);
    }
}
