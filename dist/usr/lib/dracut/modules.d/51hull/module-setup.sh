#!/bin/bash
# setup-root in dracut's initrd: the root is a composefs image.
# shellcheck disable=SC2154 # dracut sets initdir, moddir and systemdsystemunitdir.

check() {
    require_binaries /usr/lib/hull/setup-root || return 1
    # On a machine that does not boot this way the unit's condition fails, and
    # nothing happens.
    return 0
}

depends() {
    echo systemd
}

installkernel() {
    # An initrd that is built in a container is for other machines: hostonly
    # would leave out what the builder does not use.
    hostonly='' instmods erofs overlay loop
    # fs-verity of objects is SHA-512; the kernel asks for it by algorithm, and
    # the names of its modules have changed over time.
    hostonly='' instmods sha512 sha512_generic sha512-ssse3 sha512-arm64 sha512-ce || :
}

install() {
    local unit=hull-setup-root.service
    local target=initrd-root-fs.target

    inst_binary /usr/lib/hull/setup-root
    # Loaded early, these unpack while the root's device is waited for.
    inst_simple "${moddir}/modules-load.conf" /etc/modules-load.d/hull.conf
    inst_simple "${systemdsystemunitdir}/${unit}"
    mkdir -p "${initdir}${systemdsystemunitdir}/${target}.requires"
    ln -sfn "../${unit}" "${initdir}${systemdsystemunitdir}/${target}.requires/${unit}"
}
