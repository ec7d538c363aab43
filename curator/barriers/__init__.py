"""Migration barriers: the hops of a crystal, and saddle points that are proved to be one."""
