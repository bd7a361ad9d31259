"""One collection indexed by several processes, on one machine or many: Ray hands out the files, a server takes them."""
