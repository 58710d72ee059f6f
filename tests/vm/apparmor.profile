# What tests load into a device with AppArmor: a container may do everything but read two files.
profile dpack-test flags=(attach_disconnected, mediate_deleted) {
  capability,
  dbus,
  file,
  mount,
  network,
  pivot_root,
  ptrace,
  signal,
  umount,
  unix,
  deny /secret r,
  deny /data/secret r,
}
