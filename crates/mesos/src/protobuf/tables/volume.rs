//! Images and volumes of containers.

use super::*;

messages! {
    IMAGE {
        1 type: enum IMAGE_TYPE;
        2 appc: message IMAGE_APPC;
        3 docker: message IMAGE_DOCKER;
        4 cached: bool;
    }
    IMAGE_APPC {
        1 name: string;
        2 id: string;
        3 labels: message LABELS;
    }
    IMAGE_DOCKER {
        1 name: string;
        2 credential: message CREDENTIAL;
        3 config: message SECRET;
    }
    MOUNT_PROPAGATION {
        1 mode: enum MOUNT_PROPAGATION_MODE;
    }
    VOLUME {
        1 container_path: string;
        2 host_path: string;
        3 mode: enum VOLUME_MODE;
        4 image: message IMAGE;
        5 source: message VOLUME_SOURCE;
    }
    VOLUME_SOURCE {
        1 type: enum VOLUME_SOURCE_TYPE;
        2 docker_volume: message VOLUME_SOURCE_DOCKER_VOLUME;
        3 sandbox_path: message VOLUME_SOURCE_SANDBOX_PATH;
        4 secret: message SECRET;
        5 host_path: message VOLUME_SOURCE_HOST_PATH;
        6 csi_volume: message VOLUME_SOURCE_CSI_VOLUME;
    }
    VOLUME_SOURCE_DOCKER_VOLUME {
        1 driver: string;
        2 name: string;
        3 driver_options: message PARAMETERS;
    }
    VOLUME_SOURCE_HOST_PATH {
        1 path: string;
        2 mount_propagation: message MOUNT_PROPAGATION;
    }
    VOLUME_SOURCE_SANDBOX_PATH {
        1 type: enum VOLUME_SOURCE_SANDBOX_PATH_TYPE;
        2 path: string;
    }
    VOLUME_SOURCE_CSI_VOLUME {
        1 plugin_name: string;
        2 static_provisioning: message VOLUME_SOURCE_CSI_VOLUME_STATIC_PROVISIONING;
    }
    VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY {
        1 block: message VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_BLOCK_VOLUME;
        2 mount: message VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_MOUNT_VOLUME;
        3 access_mode: message VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_ACCESS_MODE;
    }
    VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_BLOCK_VOLUME {}
    VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_MOUNT_VOLUME {
        1 fs_type: string;
        2 mount_flags: many string;
    }
    VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_ACCESS_MODE {
        1 mode: enum VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_ACCESS_MODE_MODE;
    }
    VOLUME_SOURCE_CSI_VOLUME_STATIC_PROVISIONING {
        1 volume_id: string;
        2 volume_capability: message VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY;
        3 node_stage_secrets: map message SECRET;
        4 node_publish_secrets: map message SECRET;
        5 volume_context: map string;
    }
}

enums! {
    IMAGE_TYPE {
        APPC = 1;
        DOCKER = 2;
    }
    MOUNT_PROPAGATION_MODE {
        UNKNOWN = 0;
        HOST_TO_CONTAINER = 1;
        BIDIRECTIONAL = 2;
    }
    VOLUME_MODE {
        RW = 1;
        RO = 2;
    }
    VOLUME_SOURCE_TYPE {
        UNKNOWN = 0;
        DOCKER_VOLUME = 1;
        SANDBOX_PATH = 2;
        SECRET = 3;
        HOST_PATH = 4;
        CSI_VOLUME = 5;
    }
    VOLUME_SOURCE_SANDBOX_PATH_TYPE {
        UNKNOWN = 0;
        SELF = 1;
        PARENT = 2;
    }
    VOLUME_SOURCE_CSI_VOLUME_VOLUME_CAPABILITY_ACCESS_MODE_MODE {
        UNKNOWN = 0;
        SINGLE_NODE_WRITER = 1;
        SINGLE_NODE_READER_ONLY = 2;
        MULTI_NODE_READER_ONLY = 3;
        MULTI_NODE_SINGLE_WRITER = 4;
        MULTI_NODE_MULTI_WRITER = 5;
    }
}
