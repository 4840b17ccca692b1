# Twenty-four epochs from scratch on a few hundred photographs, channels last.
_base_ = './photos.py'
max_epochs = 24
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.012))
param_scheduler = [
    {**_base_.param_scheduler[0], 'end': 80},
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
