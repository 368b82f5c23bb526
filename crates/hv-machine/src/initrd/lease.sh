#!/bin/sh
# What udhcpc runs in the stock initrd: it gives the card the address that the network has for it.
case $1 in
    deconfig)
        ip address flush dev "$interface"
        ip link set "$interface" up
        ;;
    bound | renew)
        ip address add "$ip/${mask:-24}" dev "$interface"
        for gateway in $router; do ip route add default via "$gateway" dev "$interface" && break; done
        for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
        echo "hv: network $interface $ip gateway $router"
        ;;
esac
