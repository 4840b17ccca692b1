"""Stand-ins for the compiled mmcv ops that detectors need.

Each function has the name, the arguments and the results of its compiled counterpart in
``mmcv._ext``: outputs arrive as arguments and are filled in place where the compiled op does so.
torchvision's ops serve where they work; otherwise everything is plain PyTorch, on any device.
Half precision is computed in float32 and rounded once, at the end. ``SUPPLIED`` of a module names
its stand-ins.
"""
