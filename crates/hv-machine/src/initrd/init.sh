#!/bin/sh
# /init of the stock initrd. It loads the modules in /modules in order, waits for VMBus, and then does what the words
# of hv.run= on the kernel command line say, separated by commas:
#   poweroff  switch off; also done when the words are used up (default)
#   reset     restart the machine
#   crash     make the kernel panic
#   hotplug   take every processor but the first offline and online again
#   poke      read the hypervisor's memory, which must fail
#   net       give the network card the address that the network has for it (DHCP)
#   wait      until the host ends the machine: /sbin/poweroff and /sbin/reboot, which the kernel runs then, say so
#   shell     an interactive shell on the console, of hv.size=ROWSxCOLUMNS
#   agent     the command of `hv exec`
# With root= on the command line, and no hv.run=, it mounts that and hands over to the init in it; rootfstype=,
# rootflags=, rw and init= mean what they mean to the kernel. Each line that it prints starts with "hv: ".

export PATH=/bin HOME=/ TERM=vt100
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo "hv: init on $(uname -srm), $(nproc) processors"

run= size= root= type= options=ro init=/sbin/init missing=
for word in $(cat /proc/cmdline); do
    case $word in
        hv.run=*) run=${word#hv.run=} ;;
        hv.size=*) size=${word#hv.size=} ;;
        root=*) root=${word#root=} ;;
        rootfstype=*) type="-t ${word#rootfstype=}" ;;
        rootflags=*) options=$options,${word#rootflags=} ;;
        init=*) init=${word#init=} ;;
        rw) options=$options,rw ;;
        --) break ;;
    esac
done

for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    name=${module##*/}
    if insmod "$module"; then echo "hv: loaded $name"; else echo "hv: FAILED to load $name"; fi
done

connect() {
    tries=0
    while [ $tries -lt 20 ]; do
        version=$(dmesg | grep -o 'Vmbus version:.*') && break
        tries=$((tries + 1))
        sleep 0.1
    done
    if [ -n "$version" ]; then echo "hv: connected, $version"; else echo "hv: NOT connected to VMBus"; fi
}

hotplug() {
    for cpu in /sys/devices/system/cpu/cpu[1-9]*; do
        [ -e "$cpu/online" ] || continue
        for state in 0 1; do
            echo $state >"$cpu/online"
            if [ "$(cat "$cpu/online")" = $state ]; then
                echo "hv: ${cpu##*/} online=$state"
            else
                echo "hv: FAILED to set ${cpu##*/} online=$state"
            fi
        done
    done
    echo "hv: hotplug done, $(nproc) processors"
}

poke() {
    # The image, the report, and the start of RAM: one page each.
    for address in 0x40200000 0x40101000 0x40000000; do
        if value=$(devmem $address 32 2>/dev/null); then
            echo "hv: FAILED: read $value from $address"
        else
            echo "hv: no access to $address"
        fi
    done
}

# Whether a driver of VMBus has taken a device.
has_device() {
    [ -n "$(ls -d "/sys/bus/vmbus/drivers/$1/"*-* 2>/dev/null)" ]
}

network() {
    tries=0 missing= limit=100
    ip link set lo up
    while [ $tries -lt $limit ]; do
        for card in $(ls /sys/class/net); do
            [ -e "/sys/class/net/$card/device" ] && break 2
        done
        card=
        # One that its driver has taken will be there, however slow the machine is.
        has_device hv_netvsc && limit=600
        tries=$((tries + 1))
        sleep 0.1
    done
    if [ -z "$card" ]; then
        missing="NO network card: does the kernel have hv_netvsc?"
    elif ! udhcpc -n -q -t 20 -T 3 -s /bin/lease -i "$card"; then
        missing="NO address for $card: the network has not answered by DHCP"
    fi
    [ -z "$missing" ] || echo "hv: $missing"
}

wait_for_host() {
    # The time service sets the clock as soon as it has agreed with the host on versions.
    for clock in /sys/class/ptp/*/clock_name; do
        [ -e "$clock" ] || continue
        echo "hv: clock $(cat "$clock")"
        tries=0
        while [ "$(date -u +%Y)" -lt 2000 ] && [ $tries -lt 100 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        echo "hv: date $(date -u +%Y-%m-%d)"
    done
    echo "hv: waiting"
    while :; do sleep 1; done
}

hand_over() {
    tries=0 seen= limit=100
    while [ $tries -lt $limit ]; do
        case $root in
            UUID=* | LABEL=*) device=$(findfs "$root" 2>/dev/null) ;;
            *) device=$root ;;
        esac
        [ -b "$device" ] && break
        # The others follow one another, and the first one comes if a driver has their controller, however slow the
        # machine is.
        there=$(ls /sys/class/block 2>/dev/null)
        [ "$there" = "$seen" ] || tries=0
        seen=$there limit=100
        case $there in
            *sd* | *sr*) ;;
            *) has_device hv_storvsc && limit=600 ;;
        esac
        tries=$((tries + 1))
        sleep 0.1
    done
    mkdir -p /system
    if mount $type -o "$options" "$device" /system; then
        echo "hv: root $device"
        umount /sys /proc
        mount -o move /dev /system/dev
        exec switch_root /system "$init"
    fi
    echo "hv: FAILED to mount root=$root"
    # A kernel without a root file system panics; so it does without its first program.
    exit 1
}

agent() {
    ip link set lo up
    mkdir -p /dev/pts /dev/shm /run
    mount -t devpts devpts /dev/pts
    busybox --install -s /bin
    # What is missing of the network is said to the command's user, who does not see the console.
    HOME=/ hv-agent "$missing"
}

connect
[ -z "$run" ] && [ -n "$root" ] && hand_over
for action in $(echo "${run:-poweroff}" | sed 's/,/ /g'); do
    echo "hv: $action"
    case $action in
        poweroff) poweroff -f ;;
        reset) reboot -f ;;
        crash) echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger ;;
        hotplug) hotplug ;;
        poke) poke ;;
        net) network ;;
        wait) wait_for_host ;;
        shell)
            [ -n "$size" ] && stty rows "${size%x*}" columns "${size#*x}"
            setsid cttyhack sh
            ;;
        agent) agent ;;
        *) echo "hv: UNKNOWN hv.run=$action" ;;
    esac
done
poweroff -f
